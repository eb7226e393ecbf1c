-- Lets nobody else change accounts until the transaction ends: the last admin must stay.
-- In: nothing. Out: nothing.
lock table account in share row exclusive mode
