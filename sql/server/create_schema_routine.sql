-- Make the table of the files of routines that were applied.
-- In, out: nothing.
create table if not exists schema_routine (
    name   text collate "C" not null,
    sha256 text not null,
    constraint schema_routine_pkey primary key (name)
)
