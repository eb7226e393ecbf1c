-- The ledger is the truth: going below this revision loses every recorded change.
drop schema single cascade;
drop schema known cascade;
drop table ledger;
drop table batch;
drop function stamp_batch;
