-- Put a table on all machines as a whole.
-- In: name. Out: nothing.
select create_reference_table(%(name)s::text::regclass)
