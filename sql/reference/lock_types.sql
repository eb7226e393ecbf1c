-- Lock the types and sources until the transaction ends, so that one load at a time changes them; merges can go on.
-- In: nothing. Out: nothing.
lock table entity_type, detail_type, source in share row exclusive mode
