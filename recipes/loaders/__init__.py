"""Code to paste into an app."""
