-- Lock tables for reading until the transaction ends, so that none is changed in form; it takes no snapshot.
-- In: tables, as identifiers. Out: nothing.
lock table {tables} in access share mode
