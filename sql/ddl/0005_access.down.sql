-- Going below this revision loses every token and superuser; an API on loopback is open then.
drop table superuser;
drop table access_token;
