-- Of which drops somebody approved that they go in, though a snapshot ended much: the batch's actor did, at its moment. What is kept
-- with the held drop goes when the drop is held again.
create table approval (
    batch_id bigint not null,
    sent_by  text   collate "C" not null,  -- who sent the drop
    reason   text,
    constraint approval_pkey primary key (batch_id)
);
insert into approval (batch_id, sent_by, reason)
select f.batch_id, h.sent_by, h.reason
from held_drop h
join drop_file f on f.sha256 = h.drop_sha256
where h.decision = 'approved' and f.batch_id is not null and h.reason is distinct from 'it ends less now';
