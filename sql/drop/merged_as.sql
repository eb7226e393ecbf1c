-- Find the newest merged drop whose bytes first came under a file name.
-- In: file_name. Out: sha256, none if there is no such drop.
select sha256 from drop_file where file_name = %(file_name)s and status = 'merged' order by merged_at desc limit 1
