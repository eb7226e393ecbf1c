-- The versions that hold now.
-- In: nothing. Out: a condition.
e.is_current
