-- Lets every check of this transaction see the same instant, and write nothing.
-- In, out: nothing.
set transaction isolation level repeatable read, read only
