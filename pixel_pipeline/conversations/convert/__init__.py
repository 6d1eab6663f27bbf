"""From one raw object to conversations, quarantine and ledger."""
