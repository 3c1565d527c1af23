"""What an interrupted detection run goes on from: finished categories, and features and tables of the running one."""
