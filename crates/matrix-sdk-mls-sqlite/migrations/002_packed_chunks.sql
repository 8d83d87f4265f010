-- How a piece is stored: 0 as it is, 1 compressed. Also part of the place that `value` is sealed to.
ALTER TABLE chunk ADD COLUMN form INTEGER NOT NULL DEFAULT 0;
