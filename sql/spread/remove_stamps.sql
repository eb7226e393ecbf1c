-- Drop the table of batches that are stamped when they are committed: one server needs none.
-- In, out: nothing.
drop table batch_to_stamp
