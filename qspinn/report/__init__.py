"""Reports for people: what was assumed, planned, measured and proved."""
