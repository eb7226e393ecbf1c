-- The views as known go with their schema.
drop schema known cascade;
drop function make_fold();
