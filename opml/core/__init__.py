"""The cargo: the only part of opml that travels into a container or onto an EC2 instance."""
