-- Lets one load at a time change the types, until the transaction ends; merges go on.
-- In: nothing. Out: nothing.
lock table entity_type, detail_type in share row exclusive mode
