"""What goes over the wire: parameters, schemas, pages, streams, tables, previews and conditions."""
