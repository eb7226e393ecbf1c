-- The ledger is the truth: going below this revision loses every recorded change.
drop table ledger;
drop table batch;
