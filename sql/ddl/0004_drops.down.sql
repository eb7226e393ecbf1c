-- What each drop did and what it was refused; the changes themselves are in the ledger.
drop table reject;
drop table drop_file;
