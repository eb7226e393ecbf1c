-- The bytes of a held drop, part by part.
-- In: sha256. Out: bytes, in order.
select bytes from held_part where drop_sha256 = %(sha256)s order by part_no
