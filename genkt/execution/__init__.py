"""Work cut into shard tasks, and what runs them: this process, a pool, launched ranks, Ray."""
