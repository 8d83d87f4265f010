-- From here on a value of `epoch_key` may be a punctured key, which versions before cannot read. No
-- table changes.
SELECT 1;
