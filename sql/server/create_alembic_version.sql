-- Create the table that holds the number of the last revision, unless it exists; its name and form are Alembic's.
-- In: nothing. Out: nothing.
create table if not exists alembic_version (
    version_num varchar(32) not null,
    constraint alembic_version_pkc primary key (version_num)
)
