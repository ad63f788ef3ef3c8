"""Values: entries, listings, plans and states. Pure; they import no clock, no disk, no network."""
