"""The shipped test kit: worlds that can be replayed, models and scenario transcripts.

- `virtual_time`: an event loop whose clock jumps, for tests that never wait;
- `fake_clock`, `fake_replicator`: the ports of a node, played by a script;
- `raft_bench`: a Raft group whose messages, disks and clock are moved by hand;
- `memory_files`: a file system that loses what was not synced;
- `durable_lives`, `durable_story`: a member's files in use, and a model of what must be in them;
- `crash_points`, `damages`: such a story ended at every call, and its files damaged at random;
- `lagging_executor`: a sync worker whose calls come between those of the loop, the same every time;
- `naive_model`, `scenario`: what the state machine must do, told in two other ways.
"""
