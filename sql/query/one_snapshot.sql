-- Make all statements of the transaction see one snapshot of the database, that of the next statement.
-- In, out: nothing.
set transaction isolation level repeatable read
