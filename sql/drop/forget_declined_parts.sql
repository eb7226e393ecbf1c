-- Delete the bytes of drops that were declined before an instant; that they came, what they would have done and who declined them stays.
-- In: before. Out: how many drops these are.
with gone as (
    delete from held_part p
    using held_drop h
    where h.drop_sha256 = p.drop_sha256 and h.decision = 'declined' and h.decided_at < %(before)s
    returning p.drop_sha256
)
select count(distinct drop_sha256) from gone
