-- Return that indexes are kept: to set them aside on several machines is not tried.
-- In: at_least. Out: is_bulk_load.
select false and %(at_least)s > 0
