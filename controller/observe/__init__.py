"""From a key to what a planner needs: reads caches, and live what we only refer to."""
