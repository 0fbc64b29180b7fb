"""Images that need no download: handwritten digits, drawn glyphs, photographs of libraries."""
