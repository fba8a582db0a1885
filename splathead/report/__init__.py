"""Tables, figures and the HTML report: everything is regenerated from the tidy result files."""
