-- From here on a value of `epoch_key` may be a punctured key, which versions before cannot read, and one
-- of `record` may have a summary, which versions before would lose. No table changes.
SELECT 1;
