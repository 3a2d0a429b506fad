"""Tables, figures, decisions and reports from results. Imports only the records of hpcbench."""
