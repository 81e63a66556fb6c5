"""What plugins that keep something in SQLite databases share."""
