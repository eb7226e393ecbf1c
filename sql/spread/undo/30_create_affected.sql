-- Create the work table of the changes that begin to act, or act no more, distributed.
-- In, out: nothing.
select create_spread_affected()
