"""What a file answers on pictures, and where two files part; shown as text and as a page."""
