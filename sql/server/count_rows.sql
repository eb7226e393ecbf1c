-- Count the rows of a table, or the values of one of its columns.
-- In: table, and column or a star, as identifiers. Out: the count, as one line of text.
copy (select count({column}) from {table}) to stdout
