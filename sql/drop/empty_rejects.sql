-- Remove the text of rejected rows of drops that came before an instant; lines and reasons stay, for the counts and for another try.
-- In: before. Out: nothing.
update reject r set raw = ''
from drop_file d
where d.sha256 = r.drop_sha256 and d.first_seen_at < %(before)s and raw <> ''
