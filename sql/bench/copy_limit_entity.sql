-- Take the entities of a drop. In: CSV rows. Out: nothing.
copy limit_entity from stdin (format csv)
