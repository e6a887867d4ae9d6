"""The same model behind other servers, set up as their documentation says works best."""
