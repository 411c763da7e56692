"""Images shipped with the package; NOTICE has their origin and licence."""
