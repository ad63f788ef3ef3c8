"""Wire and file formats, and names. Pure: they import no clock, no disk, no network."""
