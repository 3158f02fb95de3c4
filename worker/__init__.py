"""Workers: lease chunks, fetch, scan and record; and the house chores, relay and sweep."""
