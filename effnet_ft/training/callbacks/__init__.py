"""Lightning callbacks: checkpoints, the epoch table, throughput, the NaN guard, averaged weights."""
