"""Views -> matplotlib figures, styled by seaborn, without pyplot's global state."""
