-- Whether the bytes of a drop that was held are still kept; a file that is empty has none to keep.
-- In: sha256. Out: true or false.
select bytes = 0 or exists (select from held_part p where p.drop_sha256 = f.sha256) from drop_file f where sha256 = %(sha256)s
