-- Keep a part of the bytes of a held drop.
-- In: sha256, part_no, bytes. Out: nothing.
insert into held_part (drop_sha256, part_no, bytes) values (%(sha256)s, %(part_no)s, %(bytes)s)
