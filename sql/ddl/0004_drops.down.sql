-- What each drop did and what it was refused; the changes themselves are in the ledger.
drop table reject;
drop index batch_by_drop;
drop table drop_file;
