-- The entities of which any change ever said a name with a part, some of them if there are very many.
-- In: like (a pattern), limit. Out: entity_uid, each perhaps several times.
select entity_uid from ever_called(%(like)s) limit %(limit)s
