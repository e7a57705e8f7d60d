"""The screen of one study."""
