"""What a run looks like: tables (percent only here), plots and one self-contained HTML page."""
