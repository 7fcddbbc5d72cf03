"""From sessions to numbers: statistics, leaderboard, metrics."""
